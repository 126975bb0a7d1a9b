"""DatasetWrapper with the original's arguments; it is not used by the test's loaders."""

from torch.utils.data import Dataset


class DatasetWrapper(Dataset):
    def __init__(self, cfg, data_source, transform=None, is_train=False):
        self.cfg = cfg
        self.data_source = data_source
        self.transform = transform
        self.is_train = is_train

    def __len__(self):
        return len(self.data_source)
