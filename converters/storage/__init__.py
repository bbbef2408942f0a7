"""Frames on disk: the dataset file, its journal, and files that appear whole or not at all."""

from converters.storage.dataset import Dataset
from converters.storage.writer import DatasetWriter

__all__ = ["Dataset", "DatasetWriter"]
