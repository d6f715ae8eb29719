"""Labelled samples, and the CSV and npz files that they come from."""

from fedring.shared.samples.dataset import Dataset
from fedring.shared.samples.files import read_samples
from fedring.shared.samples.npz_file import write_npz

__all__ = ["Dataset", "read_samples", "write_npz"]
