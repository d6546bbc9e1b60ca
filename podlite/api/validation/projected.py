"""Validation of projected volumes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from podlite.api.validation import names
from podlite.api.validation.meta import ANNOTATIONS_LIMIT, validate_selector
from podlite.api.validation.volumes import validate_downward_file, validate_key_to_path, validate_mode

if TYPE_CHECKING:
    from podlite.api.validation.report import Report
    from podlite.api.volumes import (
        ClusterTrustBundleProjection,
        PodCertificateProjection,
        ProjectedVolumeSource,
        ServiceAccountTokenProjection,
    )

_KEY_TYPES = ("RSA3072", "RSA4096", "ECDSAP256", "ECDSAP384", "ECDSAP521", "ED25519")
_MIN_CERTIFICATE_SECONDS = 3600
_MAX_CERTIFICATE_SECONDS = 91 * 24 * 3600
_MAX_KUBERNETES_CERTIFICATE_SECONDS = 24 * 3600
_MIN_TOKEN_SECONDS = 600
_MAX_SIGNER = 253 + 1 + 253 + 63 + 1
_CONFLICT = "conflicting duplicate paths"


def validate_projected(source: ProjectedVolumeSource, path: str, report: Report) -> None:
    """One kind of source in each projection, and no path twice."""
    validate_mode(source.default_mode, f"{path}.defaultMode", report)
    taken: set[str] = set()

    def take(file: str, shown: str) -> None:
        if file in taken:
            report.invalid(path, shown, _CONFLICT)
        taken.add(file)

    for index, projection in enumerate(source.sources):
        place = f"{path}.sources[{index}]"
        count = 0
        for name, keyed in (("secret", projection.secret), ("configMap", projection.config_map)):
            if keyed is None:
                continue
            count += 1
            if not keyed.name:
                report.required(f"{place}.{name}.name")
            for number, key in enumerate(keyed.items):
                validate_key_to_path(key, f"{place}.{name}.items[{number}]", report)
                if key.path:
                    take(key.path, keyed.name)
        if projection.downward_api is not None:
            count += 1
            for item in projection.downward_api.items:
                validate_downward_file(item, f"{place}.downwardAPI", report)
                if item.path:
                    take(item.path, item.path)
        if projection.service_account_token is not None:
            count += 1
            _token(projection.service_account_token, place, path, report)
        if projection.cluster_trust_bundle is not None:
            count += 1
            bundle = projection.cluster_trust_bundle
            _trust_bundle(bundle, f"{place}.clusterTrustBundle", report)
            take(bundle.path, bundle.path)
        if projection.pod_certificate is not None:
            count += 1
            certificate = projection.pod_certificate
            _certificate(certificate, f"{place}.podCertificate", report)
            for file in (certificate.credential_bundle_path, certificate.key_path, certificate.certificate_chain_path):
                if file:
                    take(file, file)
        if count > 1:
            report.forbidden(place, "may not specify more than 1 volume type per source")


def _token(token: ServiceAccountTokenProjection, place: str, path: str, report: Report) -> None:
    seconds = token.expiration_seconds or 0
    where = f"{place}.serviceAccountToken.expirationSeconds"
    if seconds < _MIN_TOKEN_SECONDS:
        report.invalid(where, seconds, "may not specify a duration less than 10 minutes")
    if seconds > 2**32:
        report.invalid(where, seconds, "may not specify a duration larger than 2^32 seconds")
    if token.path:
        report.invalids(f"{path}.path", token.path, names.local_path(token.path))
    else:
        report.required(f"{path}.path")


def _trust_bundle(bundle: ClusterTrustBundleProjection, path: str, report: Report) -> None:
    if bundle.name is not None and bundle.signer_name is not None:
        report.invalid(path, bundle, "only one of name and signerName may be used")
    elif bundle.name is not None:
        if not bundle.name:
            report.required(f"{path}.name", "must be a valid object name")
        for wrong in _bundle_name(bundle.name):
            report.invalid(f"{path}.name", bundle.name, f"not a valid clustertrustbundlename: {wrong}")
        if bundle.label_selector is not None:
            detail = "labelSelector must be unset if name is specified"
            report.invalid(f"{path}.labelSelector", bundle.label_selector, detail)
    elif bundle.signer_name is not None:
        if not bundle.signer_name:
            report.required(f"{path}.signerName", "must be a valid signer name")
        validate_signer_name(bundle.signer_name, f"{path}.signerName", report)
        validate_selector(bundle.label_selector, f"{path}.labelSelector", report)
    else:
        report.required(path, "either name or signerName must be specified")
    if not bundle.path:
        report.required(f"{path}.path")
    report.invalids(f"{path}.path", bundle.path, names.local_path(bundle.path))


def _bundle_name(name: str) -> list[str]:
    """A name with a signer is `signer.example:domain:name`, its slashes written as colons; without, a subdomain."""
    signer, colon, last = name.rpartition(":")
    if not colon:
        return names.dns_subdomain(name)
    if not signer:
        return ['ClusterTrustBundle without signer name must not have ":" in its name']
    return names.dns_subdomain(last)


def validate_signer_name(name: str, path: str, report: Report) -> None:
    """A signer is `domain/path`, such as kubernetes.io/kube-apiserver-client."""
    if not name:
        report.required(path)
        return
    domain, _, rest = name.partition("/")
    if name.count("/") != 1:
        detail = "must be a fully qualified domain and path of the form 'example.com/signer-name'"
        report.invalid(path, name, detail)
        return
    if len(domain.encode()) > names.DNS_SUBDOMAIN_MAX:
        report.too_long(path, names.DNS_SUBDOMAIN_MAX)
    for part, labels, check in (
        (domain, domain.split("."), names.dns_label),
        (rest, rest.split("."), names.dns_subdomain),
    ):
        for label in labels:
            wrong = check(label)
            report.invalids(path, part, [f'validating label "{label}": {each}' for each in wrong])
            if wrong:
                break
        if part is domain and len(labels) < 2:
            report.invalid(path, domain, "should be a domain with at least two segments separated by dots")
    if len(name.encode()) > _MAX_SIGNER:
        report.too_long(path, _MAX_SIGNER)


def _certificate(certificate: PodCertificateProjection, path: str, report: Report) -> None:
    validate_signer_name(certificate.signer_name, f"{path}.signerName", report)
    size = 0
    for key, value in certificate.user_annotations.items():
        report.invalids(f"{path}.userAnnotations", key.lower(), names.domain_prefixed_key(key.lower()))
        size += len(key.encode()) + len(value.encode())
    if size > ANNOTATIONS_LIMIT:
        report.too_long(f"{path}.userAnnotations", ANNOTATIONS_LIMIT)
    if certificate.key_type not in _KEY_TYPES:
        report.not_supported(f"{path}.keyType", certificate.key_type, _KEY_TYPES)
    seconds = certificate.max_expiration_seconds
    if seconds is not None:
        host = certificate.signer_name.partition("/")[0]
        ours = host == "kubernetes.io" or host.endswith(".kubernetes.io")
        most = _MAX_KUBERNETES_CERTIFICATE_SECONDS if ours else _MAX_CERTIFICATE_SECONDS
        where, limit = f"{path}.maxExpirationSeconds", "if provided, maxExpirationSeconds must be"
        if seconds < _MIN_CERTIFICATE_SECONDS:
            report.invalid(where, seconds, f"{limit} >= {_MIN_CERTIFICATE_SECONDS}")
        if seconds > most:
            report.invalid(where, seconds, f"{limit} <= {most}")
    given = 0
    for name, file in (
        ("credentialBundlePath", certificate.credential_bundle_path),
        ("keyPath", certificate.key_path),
        ("certificateChainPath", certificate.certificate_chain_path),
    ):
        if file:
            given += 1
            report.invalids(f"{path}.{name}", file, names.local_path(file))
    if not given:
        report.required(path, "specify at least one of credentialBundlePath, keyPath, and certificateChainPath")
