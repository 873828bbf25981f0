"""Planning, generating and keeping synthetic text: plan → engines → ledger → published generations."""
