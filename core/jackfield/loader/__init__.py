"""From a checkpoint's files to a model whose weights are packed for its device."""
