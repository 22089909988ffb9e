"""What CUDA and ROCm devices have in common. Import the module that you need: this package itself imports nothing."""
