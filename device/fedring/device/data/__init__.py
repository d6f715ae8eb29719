"""Where a device's own samples come from."""

from fedring.device.data.sources import FileSource, Source
from fedring.shared.samples import Dataset

__all__ = ["Dataset", "FileSource", "Source"]
