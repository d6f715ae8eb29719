"""Labelled samples, and the CSV and npz files that they come from."""

from fedring.shared.samples.arrays import Table
from fedring.shared.samples.dataset import Dataset
from fedring.shared.samples.files import check_samples, read_samples
from fedring.shared.samples.npz_file import write_npz
from fedring.shared.samples.rows import Rows

__all__ = ["Dataset", "Rows", "Table", "check_samples", "read_samples", "write_npz"]
