"""Where a device's own samples come from."""

from fedring.device.data.database import DatabaseSource
from fedring.device.data.files import FileSource, FolderSource
from fedring.device.data.function import FunctionSource
from fedring.device.data.sources import Source, source_of
from fedring.shared.samples import Dataset

__all__ = [
    "DatabaseSource",
    "Dataset",
    "FileSource",
    "FolderSource",
    "FunctionSource",
    "Source",
    "source_of",
]
