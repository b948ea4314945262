"""One file an action: fenced, under the policy's identity, answering with an Outcome."""
