"""The backbones: one file each; the file's name is what you type after `backbone=`. Any timm name works too."""
