"""Takes the official PyPI client through every operation: RINGBACK_URL=... RINGBACK_TOKEN=... python run.py"""
import sys
import traceback

import access
import applications
import asynchronous
import attempts
import deliveries
import endpoints
import errors
import event_types
import messages
import missing

MODULES = [applications, endpoints, event_types, messages, deliveries, attempts, access, errors, asynchronous, missing]

failed = 0
for module in MODULES:
    for name, group in module.GROUPS.items():
        try:
            group()
            print(f"python: {name}", flush=True)
        except Exception as error:
            failed += 1
            answer = error.to_dict() if hasattr(error, "to_dict") else ""
            print(f"python: {name}: FAILED {answer}\n{traceback.format_exc()}", flush=True)
sys.exit(1 if failed else 0)
