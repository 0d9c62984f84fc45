"""What ``paraknow init-server`` makes on a Prefect server: what is absent is made, no more.

What an operator set on the server (schedules added or switched on, limits, variables, automations)
stays as it is, and where it differs from the file, that is said.
"""
