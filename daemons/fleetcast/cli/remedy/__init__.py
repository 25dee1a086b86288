"""Commands about incidents and playbooks. They ask the remedy daemon; what only reads works without one."""
