"""Validation of a pod's names and addresses: host name, DNS, host aliases."""

from __future__ import annotations

from typing import TYPE_CHECKING

from podlite.api.validation import names

if TYPE_CHECKING:
    from podlite.api.pod import PodDNSConfig, PodSpec
    from podlite.api.validation.report import Report

DNS_POLICIES = ("ClusterFirstWithHostNet", "ClusterFirst", "Default", "None")
MAX_NAMESERVERS = 3
MAX_SEARCHES = 32
MAX_SEARCH_LENGTH = 2048
MAX_HOSTNAME_OVERRIDE = 64


def validate_dns_policy(policy: str, path: str, report: Report) -> None:
    if not policy:
        report.required(path)
    elif policy not in DNS_POLICIES:
        report.not_supported(path, policy, DNS_POLICIES)


def validate_dns_config(config: PodDNSConfig | None, policy: str, path: str, report: Report) -> None:
    """With the policy None there must be a name server."""
    if policy == "None":
        if config is None:
            report.required(path, "must provide `dnsConfig` when `dnsPolicy` is None")
        elif not config.nameservers:
            detail = "must provide at least one DNS nameserver when `dnsPolicy` is None"
            report.required(f"{path}.nameservers", detail)
            return
    if config is None:
        return
    if len(config.nameservers) > MAX_NAMESERVERS:
        detail = f"must not have more than {MAX_NAMESERVERS} nameservers"
        report.invalid(f"{path}.nameservers", config.nameservers, detail)
    for index, server in enumerate(config.nameservers):
        report.invalids(f"{path}.nameservers[{index}]", server, names.ip_address(server))
    if len(config.searches) > MAX_SEARCHES:
        detail = f"must not have more than {MAX_SEARCHES} search paths"
        report.invalid(f"{path}.searches", config.searches, detail)
    if len(" ".join(config.searches).encode()) > MAX_SEARCH_LENGTH:
        detail = f"must not have more than {MAX_SEARCH_LENGTH} characters (including spaces) in the search list"
        report.invalid(f"{path}.searches", config.searches, detail)
    for index, search in enumerate(config.searches):
        if search != ".":
            search = search.removesuffix(".")
            wrong = names.dns_subdomain_with_underscore(search)
            report.invalids(f"{path}.searches[{index}]", search, wrong)
    for index, option in enumerate(config.options):
        if not option.name:
            report.required(f"{path}.options[{index}]", "must not be empty")


def validate_host_aliases(spec: PodSpec, path: str, report: Report) -> None:
    for index, alias in enumerate(spec.host_aliases):
        report.invalids(f"{path}[{index}].ip", alias.ip, names.ip_address(alias.ip))
        for number, hostname in enumerate(alias.hostnames):
            wrong = names.dns_subdomain(hostname)
            report.invalids(f"{path}[{index}].hostnames[{number}]", hostname, wrong)


def validate_hostname_override(spec: PodSpec, path: str, report: Report) -> None:
    name = spec.hostname_override
    if name is None:
        return
    place = f"{path}.hostnameOverride"
    if spec.set_hostname_as_fqdn:
        report.forbidden(place, "may not be specified when setHostnameAsFQDN is true")
    if spec.host_network:
        report.forbidden(place, "may not be specified when hostNetwork is true")
    if len(name.encode()) > MAX_HOSTNAME_OVERRIDE:
        report.too_long(place, MAX_HOSTNAME_OVERRIDE)
    report.invalids(place, name, names.dns_subdomain(name))
