"""The collapse guard's word on a study: one verdict per gate and subject, a sentence each."""
