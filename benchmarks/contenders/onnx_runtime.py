"""torchvision's ResNet-50 in onnxruntime."""

import os
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import torch
import torchvision
from serving import SIDE, Task, serve


def prepare(task: Task) -> Callable[[], object]:
    net = torch.nn.Sequential(*list(torchvision.models.resnet50().eval().children())[:-2])
    images = torch.zeros(task.images, 3, SIDE, SIDE)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        file = str(Path(folder) / "resnet50.onnx")
        torch.onnx.export(net, (images,), file, input_names=["images"], dynamo=False)
        session = onnxruntime.InferenceSession(file, options)
    given = {"images": np.asarray(images)}
    session.run(None, given)
    return lambda: session.run(None, given)


if __name__ == "__main__":
    serve(f"onnxruntime {onnxruntime.__version__}", prepare)
