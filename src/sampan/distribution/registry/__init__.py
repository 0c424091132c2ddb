"""Registries over HTTP: the OCI distribution protocol, as a client.

    client       options in; a Resolver that makes fetchers and pushers
      hosts        which hosts to ask for a name: hosts.toml, mirrors, certificates
      credentials  who we are to whom: docker's and podman's files, helper programs
      fetch, push  the protocol's requests and what their answers must be
      endpoint     one repository on one host: authorization, retries
      auth/        schemes, as generators without I/O
      answers      refusals to our errors
      transport    HTTP: deadlines, redirects, TLS; the only module that knows the HTTP library
      proxies      which proxy a URL goes through

Calls go down this list only. Other rooms use `sampan.distribution.RegistryClient`.
"""
