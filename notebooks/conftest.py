"""What nbval compares: everything except stderr, where TensorFlow greets differently on every machine."""


def pytest_collectstart(collector):
    if hasattr(collector, "skip_compare"):
        collector.skip_compare += ("stderr",)


def pytest_collection_modifyitems(items):
    for item in items:
        if hasattr(item, "output_timeout"):
            item.output_timeout = 60  # between a cell's last output and its end; nbval's 5 s are short for a busy machine
