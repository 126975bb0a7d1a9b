"""Turn the records of finished runs into tables and plots."""
