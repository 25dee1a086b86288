"""Who may do what, and the files that make it so: roles as data, keys and certificates of a fleet, the configuration of
its NATS servers, and what is due to be renewed. No daemon belongs here, and nothing that decides about models.

`roles` says what each role may; `authority` and `keys` make secrets; `inventory` knows them all; `folder` keeps them;
`servers` writes what nats-server reads; `changing` adds, renews and takes away; `proving` tries a connection before an
old key goes. `publishers` has the keys that sign manifests."""
