"""The contract: functions as data, pairs, chains, and the one checked map over trees."""
