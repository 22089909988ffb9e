"""What plugin authors test with: emulated devices, and the conformance kit."""
