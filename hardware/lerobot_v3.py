"""The files of a LeRobotDataset of version 3, by pyarrow and FFmpeg alone: LeRobot's pins do not go with ours.

The layout is that of LeRobot 0.4.4 (`lerobot/datasets/utils.py`, `lerobot_dataset.py`): a parquet file of rows, one of
episodes, one of tasks, an MP4 for each camera in which the episodes follow each other, info and statistics as JSON.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np

from hardware.arm import Array
from hardware.frames import Stored

VERSION = "v3.0"
_FILE = "chunk-000/file-000"
_QUANTILES = {"q01": 0.01, "q10": 0.1, "q50": 0.5, "q90": 0.9, "q99": 0.99}
_OWN = ("timestamp", "frame_index", "episode_index", "index", "task_index")
_LOOKED_AT = 100  # pictures of an episode, for statistics


@dataclass(frozen=True, eq=False)
class Part:
    """One episode as LeRobot has it. rows: name -> [T] or [T,n]; pictures: camera -> something that yields T of them,
    uint8 [H,W,3], each time it is asked."""

    task: str
    rows: Mapping[str, Array]
    pictures: Mapping[str, Pictures]

    def __len__(self) -> int:
        return len(next(iter(self.rows.values())))


class Pictures:
    """T pictures of one size, read one at a time."""

    def __init__(self, stored: Sequence[Stored]) -> None:
        self._stored = stored  # the same one for as long as it was the latest

    def __iter__(self) -> Iterator[Array]:
        shown, last = self._stored[0].picture(), self._stored[0]
        for stored in self._stored:
            if stored is not last:
                shown, last = stored.picture(), stored
            yield shown

    def some(self) -> Iterator[Array]:
        for stored in self._stored[:: max(1, len(self._stored) // _LOOKED_AT)]:
            yield stored.picture()

    @property
    def shape(self) -> tuple[int, int]:
        height, width = self._stored[0].picture().shape[:2]
        return height, width


def write(folder: Path, parts: Sequence[Part], names: Mapping[str, Sequence[str] | None], fps: int, robot: str) -> None:
    """Writes everything into an empty folder. names: of the numbers of each row. Raises ValueError for a picture of
    another size than the first of its camera, or of odd sides."""
    tasks = sorted({part.task for part in parts})
    cameras = {name: pictures.shape for name, pictures in parts[0].pictures.items()}
    begins = np.cumsum([0, *map(len, parts)])
    rows = [_own(part, k, int(begins[k]), fps, tasks.index(part.task)) for k, part in enumerate(parts)]
    features = {name: _feature(each, names.get(name)) for name, each in rows[0].items()}
    _parquet(folder / f"data/{_FILE}.parquet", {name: np.concatenate([r[name] for r in rows]) for name in features})
    for camera, shape in cameras.items():
        path = folder / f"videos/{_key(camera)}/{_FILE}.mp4"
        features[_key(camera)] = _film(path, [part.pictures[camera] for part in parts], shape, fps)
    told = [_episode(part, row, k, int(begins[k]), fps) for k, (part, row) in enumerate(zip(parts, rows, strict=True))]
    _parquet(folder / f"meta/episodes/{_FILE}.parquet", {name: [t[name] for t in told] for name in told[0]})
    _tasks(folder / "meta/tasks.parquet", tasks)
    stats = {name: _stats(np.concatenate([row[name] for row in rows])) for name in rows[0]}
    stats |= {_key(c): _picture_stats([p for part in parts for p in part.pictures[c].some()]) for c in cameras}
    _json(folder / "meta/stats.json", stats)
    info = {
        "codebase_version": VERSION,
        "robot_type": robot,
        "total_episodes": len(parts),
        "total_frames": int(begins[-1]),
        "total_tasks": len(tasks),
        "chunks_size": 1000,
        "data_files_size_in_mb": 100,
        "video_files_size_in_mb": 200,
        "fps": fps,
        "splits": {"train": f"0:{len(parts)}"},
        "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
        "video_path": "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4" if cameras else None,
        "features": features,
    }
    _json(folder / "meta/info.json", info)


def _key(camera: str) -> str:
    return f"observation.images.{camera}"


def _own(part: Part, k: int, begin: int, fps: int, task: int) -> dict[str, Array]:
    steps = np.arange(len(part))
    numbers = (
        (steps / fps).astype(np.float32),
        steps,
        np.full_like(steps, k),
        begin + steps,
        np.full_like(steps, task),
    )
    return {**part.rows, **dict(zip(_OWN, numbers, strict=True))}


def _feature(values: Array, names: Sequence[str] | None) -> dict[str, Any]:
    shape = list(values.shape[1:]) or [1]
    return {"dtype": str(values.dtype), "shape": shape, "names": None if names is None else list(names)}


def _episode(part: Part, row: Mapping[str, Array], k: int, begin: int, fps: int) -> dict[str, Any]:
    told: dict[str, Any] = {
        "episode_index": k,
        "tasks": [part.task],
        "length": len(part),
        "dataset_from_index": begin,
        "dataset_to_index": begin + len(part),
    }
    stats = {name: _stats(values) for name, values in row.items()}
    for camera, pictures in part.pictures.items():
        stats[_key(camera)] = _picture_stats(list(pictures.some()))
        told[f"videos/{_key(camera)}/from_timestamp"] = begin / fps
        told[f"videos/{_key(camera)}/to_timestamp"] = (begin + len(part)) / fps
    for where in ("data", "meta/episodes", *(f"videos/{_key(camera)}" for camera in part.pictures)):
        told |= {f"{where}/chunk_index": 0, f"{where}/file_index": 0}
    return told | {f"stats/{name}/{what}": found for name, each in stats.items() for what, found in each.items()}


def _stats(values: Array) -> dict[str, list[Any]]:
    x = np.asarray(values, np.float64).reshape(len(values), -1)
    found = {"min": x.min(0), "max": x.max(0), "mean": x.mean(0), "std": x.std(0), "count": np.array([len(x)])}
    found |= {name: np.quantile(x, q, axis=0) for name, q in _QUANTILES.items()}
    return {name: each.tolist() for name, each in found.items()}


def _picture_stats(pictures: Sequence[Array]) -> dict[str, list[Any]]:
    """Of each colour from 0 to 1, [3,1,1]; of every fourth pixel in both directions."""
    x = np.concatenate([p[::4, ::4].reshape(-1, 3) for p in pictures]) / 255
    shaped = {name: np.reshape(each, (3, 1, 1)).tolist() for name, each in _stats(x).items() if name != "count"}
    return shaped | {"count": [len(pictures)]}


def _film(path: Path, parts: Sequence[Pictures], shape: tuple[int, int], fps: int) -> dict[str, Any]:
    height, width = shape
    if height % 2 or width % 2:
        raise ValueError(f"pictures are {width} x {height} pixels, and H.264 needs both even; let the camera give that")
    path.parent.mkdir(parents=True)
    with av.open(str(path), "w", options={"fflags": "+bitexact", "movflags": "+faststart"}) as out:
        stream = out.add_stream("libx264", rate=fps, options={"crf": "20", "preset": "veryfast", "g": "2"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.thread_count = 1  # the same bytes each time
        for picture in (picture for part in parts for picture in part):
            if picture.shape[:2] != shape:
                raise ValueError(
                    f"a picture is {picture.shape[1]} x {picture.shape[0]} pixels, the first {width} x {height}"
                )
            out.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        out.mux(stream.encode())
    said = {"height": height, "width": width, "codec": "h264", "pix_fmt": "yuv420p", "is_depth_map": False}
    info = {**{f"video.{name}": each for name, each in said.items()}, "video.fps": fps, "video.channels": 3}
    names = ["height", "width", "channels"]
    return {"dtype": "video", "shape": [height, width, 3], "names": names, "info": info | {"has_audio": False}}


def _parquet(path: Path, columns: Mapping[str, Any]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    def column(values: Any) -> Any:
        if not isinstance(values, np.ndarray) or values.ndim == 1:
            return pa.array(values)
        return pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), values.shape[1])

    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({name: column(values) for name, values in columns.items()}), path)


def _tasks(path: Path, tasks: Sequence[str]) -> None:
    """A pandas frame whose index is the tasks: which column that is, pandas reads from the schema."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    index = "__index_level_0__"
    kinds = {"task_index": ("int64", "int64"), index: ("unicode", "object")}
    columns = [
        {
            "name": None if name == index else name,
            "field_name": name,
            "pandas_type": a,
            "numpy_type": b,
            "metadata": None,
        }
        for name, (a, b) in kinds.items()
    ]
    said = {"index_columns": [index], "column_indexes": [], "columns": columns, "pandas_version": "2.0.0"}
    table = pa.table({"task_index": pa.array(range(len(tasks)), pa.int64()), index: pa.array(tasks, pa.string())})
    pq.write_table(table.replace_schema_metadata({"pandas": json.dumps(said)}), path)


def _json(path: Path, data: object) -> None:
    path.write_text(json.dumps(data, indent=4, allow_nan=False, ensure_ascii=False), "utf-8")
