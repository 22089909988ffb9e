"""Weight formats, for every device. Import the module that you need."""
