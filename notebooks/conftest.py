"""What nbval compares: everything but pictures, whose last bits depend on the machine (PNG and JPEG it leaves out by
itself), and stderr, where TensorFlow greets differently everywhere."""


def pytest_collectstart(collector):
    if hasattr(collector, "skip_compare"):
        collector.skip_compare += ("stderr", "image/gif")


def pytest_collection_modifyitems(items):
    for item in items:
        if hasattr(item, "output_timeout"):
            item.output_timeout = (
                60  # between a cell's last output and its end; nbval's 5 s are short for a busy machine
            )
