"""What every daemon shares: logs, notifications to systemd, signals and the order of shutdown. No rules of any daemon."""
