"""The small networks that make_fixtures.py exports: each holds something that exporters treat in a way of its own."""

import torch
from torch import nn


class Cnn(nn.Module):
    """Convolutions with BatchNorm, global average pooling: the exporters fold the one and rewrite the other."""

    shape = (3, 8, 8)

    def __init__(self):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4)
        self.conv2, self.bn2 = nn.Conv2d(4, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(8, 4)

    def forward(self, x):
        x = torch.relu(self.bn1(self.conv1(x)))
        x = torch.relu(self.bn2(self.conv2(x)))
        return self.fc(torch.flatten(self.pool(x), 1))


class Block(nn.Module):
    def __init__(self, channels_in, channels, stride):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(channels_in, channels, 3, stride, 1, bias=False), nn.BatchNorm2d(channels)
        self.conv2, self.bn2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False), nn.BatchNorm2d(channels)
        self.shortcut = nn.Sequential()
        if stride != 1 or channels_in != channels:
            self.shortcut = nn.Sequential(nn.Conv2d(channels_in, channels, 1, stride, bias=False), nn.BatchNorm2d(channels))

    def forward(self, x):
        y = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        return torch.relu(y + self.shortcut(x))


class Residual(nn.Module):
    """A ResNet in small. Its equal BatchNorm weights are what exporters merge into one tensor."""

    shape = (1, 8, 8)

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.ReLU())
        self.blocks = nn.Sequential(Block(4, 4, 1), Block(4, 8, 2))
        self.fc = nn.Linear(8, 4)

    def forward(self, x):
        return self.fc(self.blocks(self.stem(x)).mean((2, 3)))


class Mlp(nn.Module):
    """Rows of features, as a table has them; activations of each kind."""

    shape = (10,)

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(10, 16), nn.Tanh(), nn.Linear(16, 12, bias=False), nn.BatchNorm1d(12), nn.Sigmoid(),
                                    nn.Linear(12, 8), nn.ReLU6(), nn.Linear(8, 4))

    def forward(self, x):
        return self.layers(x)


class Softmax(nn.Module):
    """Ends in probabilities: served with them, trained without. `view` bakes the batch into some exports."""

    shape = (1, 8, 8)

    def __init__(self):
        super().__init__()
        self.hidden, self.fc = nn.Linear(64, 6), nn.Linear(6, 4)

    def logits(self, x):
        return self.fc(torch.relu(self.hidden(x.view(x.size(0), -1))))

    def forward(self, x):
        return torch.softmax(self.logits(x), 1)


class Dropout(nn.Module):
    """Dropout before and after flattening."""

    shape = (1, 8, 8)

    def __init__(self):
        super().__init__()
        self.conv, self.first = nn.Conv2d(1, 6, 3), nn.Dropout(0.2)
        self.second, self.fc = nn.Dropout(0.3), nn.Linear(54, 4)

    def forward(self, x):
        x = self.first(nn.functional.max_pool2d(torch.relu(self.conv(x)), 2))
        return self.fc(self.second(torch.flatten(x, 1)))


class Pooling(nn.Module):
    """Pooling with padding, strides, ceil_mode, dilation; adaptive pooling; concatenation; normalisation inside."""

    shape = (1, 9, 9)

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, padding="same", padding_mode="zeros", dilation=2)
        self.left = nn.MaxPool2d(3, 2, 1, ceil_mode=True)
        self.right = nn.AvgPool2d(3, 2, 1, count_include_pad=False)
        self.depthwise = nn.Conv2d(8, 8, 3, groups=8)
        self.adaptive = nn.AdaptiveAvgPool2d((1, 3))
        self.fc = nn.Linear(24, 4)
        self.register_buffer("mean", torch.tensor([0.3]))

    def forward(self, x):
        x = self.conv((x - self.mean) / 0.25)
        x = torch.cat([self.left(x), self.right(x)], 1)
        x = self.adaptive(nn.functional.leaky_relu(self.depthwise(x), 0.1))
        return self.fc(x.reshape(x.shape[0], -1))


NETWORKS = {"cnn": Cnn, "residual": Residual, "mlp": Mlp, "softmax": Softmax, "dropout": Dropout, "pooling": Pooling}


def make(name, seed=1):
    """The network with seeded weights, BatchNorm statistics that moved away from 0 and 1, in eval mode."""
    torch.manual_seed(seed)
    network = NETWORKS[name]()
    network.train()
    with torch.no_grad():
        for _ in range(3):
            network(torch.rand(16, *network.shape))
    return network.eval()
