#!/usr/bin/env python3
"""The network, batches and optimiser of `tandem train` (resnet8, SGD) in Python PyTorch: what bench_training.py compares with.

usage: pytorch_baseline.py VARIANT [--steps N] [--batch N] [--data DIR]      prints one line of JSON

The data lies in memory as floats. Steps that warm up are not counted, which favours this side.
"""

import argparse
import gzip
import json
import pathlib
import time

import numpy as np
import torch
from torch import nn

WARM_UP = 3
VARIANTS = {  # channels last, bf16 autocast, torch.compile
    "default": (False, False, False),
    "channels_last": (True, False, False),
    "bf16": (False, True, False),
    "channels_last+bf16": (True, True, False),
    "compile": (False, False, True),
    "compile+channels_last+bf16": (True, True, True),
}


def convolution(inputs, outputs, kernel, stride):
    return nn.Sequential(nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(outputs))


class Block(nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.first = convolution(inputs, outputs, 3, stride)
        self.second = convolution(outputs, outputs, 3, 1)
        changes = stride != 1 or inputs != outputs
        self.shortcut = convolution(inputs, outputs, 1, stride) if changes else nn.Identity()

    def forward(self, x):
        return torch.relu(self.second(torch.relu(self.first(x))) + self.shortcut(x))


class ResNet8(nn.Module):
    def __init__(self, channels, classes):
        super().__init__()
        self.stem = convolution(channels, 16, 3, 1)
        self.blocks = nn.Sequential(Block(16, 16, 1), Block(16, 32, 2), Block(32, 64, 2))
        self.fc = nn.Linear(64, classes)

    def forward(self, x):
        x = self.blocks(torch.relu(self.stem((x - 0.5) / 0.25)))
        return self.fc(torch.flatten(nn.functional.adaptive_avg_pool2d(x, 1), 1))


def load(folder):
    with gzip.open(folder / "train-images-idx3-ubyte.gz") as file:
        images = np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, 1, 28, 28)
    with gzip.open(folder / "train-labels-idx1-ubyte.gz") as file:
        labels = np.frombuffer(file.read(), np.uint8, offset=8)
    return torch.from_numpy(images.astype(np.float32) / 255), torch.from_numpy(labels.astype(np.int64))


def train(variant, images, labels, steps, batch):
    channels_last, bf16, compiled = VARIANTS[variant]
    model = ResNet8(1, 10)
    parameters = sum(p.numel() for p in model.parameters())
    if channels_last:
        model = model.to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, nesterov=True, weight_decay=5e-4)
    forward = torch.compile(model) if compiled else model
    order = torch.randperm(len(images))
    for step in range(WARM_UP + steps):
        if step == WARM_UP:
            began = time.monotonic()
        chosen = order[torch.arange(step * batch, (step + 1) * batch) % len(order)]
        x, y = images[chosen], labels[chosen]
        if channels_last:
            x = x.contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss = nn.functional.cross_entropy(forward(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss.item()
    return {"images_per_s": steps * batch / (time.monotonic() - began), "loss": loss.item(), "parameters": parameters,
            "threads": torch.get_num_threads(), "torch": torch.__version__}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("variant", choices=VARIANTS)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--data", type=pathlib.Path, default="/usr/share/datasets/fashion-mnist")
    args = parser.parse_args()
    print(json.dumps(train(args.variant, *load(args.data), args.steps, args.batch)))


if __name__ == "__main__":
    main()
