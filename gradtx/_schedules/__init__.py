"""Schedules as data: functions of the step whose numbers are leaves."""
