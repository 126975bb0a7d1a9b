"""From the records of finished runs to tables and plots."""
