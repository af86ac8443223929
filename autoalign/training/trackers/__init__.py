"""Where figures go beside metrics.jsonl: one file a service, found by its name in `report_to`.

Each has `require()`, which raises InputError when it can't work here, and `start(run)`.
"""
