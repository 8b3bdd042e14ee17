"""Real data as tensors: which axis means what. The first is always that of the samples, except where there is but one."""

from typing import Any

import torch
from torch import Tensor

import funcnn as fn
from funcnn.plots import COLORS, figure, heat_map

ROW = 300  # the scan line of the photographs that makes the time series: through the temple, and the flower's leaves


def ranks(data: dict[str, Tensor]) -> dict[str, Tensor]:
    """A tensor of each rank from 0 to 5, each taken from the data."""
    image = data["image"][0]
    return {
        "brightness of one pixel": image[ROW, 0, 0],
        "one scan line of one channel": image[ROW, :, 0],
        **data,
    }


def kinds(window: int, frames: int, options: Any) -> dict[str, Tensor]:
    """The four kinds of data, by name.

    The vectors are measurements of tumours. A scan line is a time series: a camera reads it pixel after pixel, three
    numbers at a time; it is cut into windows that overlap by half. The videos pan over the photographs.
    """
    photographs = fn.data.photographs().to(options.device)
    lines = photographs[:, ROW].to(options.tensors["dtype"])  # (photographs, timesteps, channels)
    windows = lines.unfold(1, window, max(1, window // 2))  # (photographs, windows, channels, timesteps)
    height, width = (size // 2 for size in photographs.shape[1:3])
    corners = [(height * k // frames, width * k // frames) for k in range(frames)]
    crops = [photographs[:, top : top + height, left : left + width] for top, left in corners]
    return {
        "vector": fn.data.breast_cancer(generator=options.generator(), **options.tensors).train[0],
        "time series": windows.flatten(0, 1).transpose(1, 2),
        "image": photographs,
        "video": torch.stack(crops, 1),
    }


AXES = {
    "vector": "(samples, features)",
    "time series": "(samples, timesteps, features)",
    "image": "(samples, height, width, channels)",
    "video": "(samples, frames, height, width, channels)",
}


def draw(data: dict[str, Tensor], shown: int = 4) -> tuple[Any, str]:
    """A panel for each kind of data."""
    drawing, (vector, series, image, video) = figure(4, rows=2, width=10, height=6)
    heat_map(vector, data["vector"][:15], label="standard deviations from the mean")
    vector.set(xlabel="feature", ylabel="sample")
    windows = data["time series"][:3].cpu()
    for channel, (name, color, dash) in enumerate(zip(("red", "green", "blue"), (1, 2, 0), ("-", "--", ":"), strict=True)):
        for index, window in enumerate(windows):
            start = 1.1 * index * len(window)
            label = name if index == 0 else None
            series.plot(start + torch.arange(len(window)), window[:, channel], dash, color=COLORS[color], label=label)
    size = windows.shape[1]
    series.set_xticks([1.1 * size * index + size / 2 for index in range(len(windows))], [f"sample {i}" for i in range(3)])
    series.set(xlabel=f"{size} timesteps of each", ylabel="brightness (0 to 255)")
    series.legend(frameon=False, fontsize="small", ncols=3, loc="upper center")
    series.set_ylim(None, 270)
    _tile(image, data["image"][None], [""], ["sample 0", "sample 1"])
    chosen = list(range(0, data["video"].shape[1], -(-data["video"].shape[1] // shown)))
    _tile(video, data["video"][:, chosen], ["sample 0", "sample 1"], [f"frame {index}" for index in chosen])
    for axis, (name, tensor) in zip((vector, series, image, video), data.items(), strict=True):
        axis.set_title(f"{name} {AXES[name]}\n{tuple(tensor.shape)}", fontsize="medium")
    return (
        drawing,
        "The four kinds of data, with their axes and their shapes: the first samples of each.",
    )


def _tile(axis: Any, pictures: Tensor, rows: list[str], columns: list[str]) -> None:
    """Colour pictures, shape (rows, columns, height, width, 3), as one: a reshape of them, once the axes are in order."""
    gap = pictures.shape[3] // 20
    x = torch.nn.functional.pad(pictures, (0, 0, 0, gap, 0, gap), value=255)
    r, c, height, width, channels = x.shape
    axis.imshow(x.transpose(1, 2).reshape(r * height, c * width, channels).cpu().numpy())
    for ticks, names, size in ((axis.yaxis, rows, height), (axis.xaxis, columns, width)):
        ticks.set_ticks([(index + 0.5) * size for index in range(len(names))], names)
    axis.grid(False)
    axis.spines[:].set_visible(False)
    axis.tick_params(length=0)
