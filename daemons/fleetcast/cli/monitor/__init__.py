"""What people type about how versions perform."""
