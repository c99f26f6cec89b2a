"""Writes sample.pth and legacy.pth with PyTorch itself, from made weights; run where that is installed (2.15 was).

    python -m tests.pretrained.make_pth

It has what PyTorch's files have: a conv kernel laid out channels last, running statistics with their count (a scalar),
parameters, a storage shared by two tensors, one that begins amid it, other types, no elements, and the prefix and
nesting of a checkpoint. The second is the same in the format before PyTorch 1.6.
"""

from pathlib import Path

import torch

from tests.pretrained.making import made

SAMPLE, LEGACY = (Path(__file__).with_name(name) for name in ("sample.pth", "legacy.pth"))


def main() -> None:
    kernel = torch.from_numpy(made("conv.weight", (4, 3, 3, 3))).to(memory_format=torch.channels_last)
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    shared = torch.from_numpy(made("shared", (6, 4)))
    state = module.state_dict()  # an OrderedDict with an attribute, _metadata
    state.clear()
    state["module.conv.weight"] = torch.nn.Parameter(kernel)
    state["module.norm.running_var"] = torch.from_numpy(made("norm.running_var", (4,)))
    state["module.norm.num_batches_tracked"] = torch.tensor(7)
    state["module.shared"] = shared
    state["module.turned"] = shared.T
    state["module.amid"] = shared[2:4, 1:]
    state["module.half"] = torch.from_numpy(made("half", (5,))).half()
    state["module.brain"] = torch.from_numpy(made("brain", (5,))).bfloat16()
    state["module.empty"] = torch.zeros(0, 3)
    state["module.flags"] = torch.tensor([True, False])
    checkpoint = {"epoch": 3, "loss": 0.5, "best": None, "done": True, "state_dict": state}
    torch.save(checkpoint, SAMPLE)
    torch.save(checkpoint, LEGACY, _use_new_zipfile_serialization=False)


if __name__ == "__main__":
    main()
