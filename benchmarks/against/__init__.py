"""The product as it lies here against any commit of it: `python -m benchmarks.against REVISION`."""
