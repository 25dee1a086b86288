"""Commands about publishers' keys: the folder that the root key lies in, and the key ring that nodes follow."""
