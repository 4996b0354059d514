"""The cmdlets of an Exchange administrator, over the same use cases as every other face."""
