"""Reads the Parquet files of a data folder. load_dataset(folder) is not safe here: its cache goes by the folder's own
name, so two folders both called "vsft" gave the rows of whichever was read first."""
from pathlib import Path

from datasets import load_dataset


def load(folder):
    folder = Path(folder)
    files = {s: sorted(map(str, folder.glob(f"data/{s}-*.parquet"))) for s in ("train", "test")}
    files = {s: f for s, f in files.items() if f}
    return load_dataset("parquet", data_files=files)
