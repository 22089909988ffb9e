"""What the TPU and Neuron plugins of Jackfield share: devices that torch-xla compiles for."""
