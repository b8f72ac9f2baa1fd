"""A Kafka that knows who asks: SASL_SSL with SCRAM, SSL with client certificates, and an authorizer with ACLs.

Its plain listener stays for the tests themselves, with every right. Certificates are made anew at each start; they
are valid for 127.0.0.1 and not for localhost.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

from tests.certificates import Authority
from tests.kafka.broker import KafkaBroker
from tests.kafka.deployment import quiet_admin

USER = "fraudstream"
PASSWORD = "a password of the tests' own"
REQUEST_TIMEOUT_S = 30.0

_SCRAM = "org.apache.kafka.common.security.scram.ScramLoginModule"
_PROPERTIES = """
listeners=PLAINTEXT://127.0.0.1:{plain},SASL_SSL://127.0.0.1:{sasl},SSL://127.0.0.1:{ssl},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{plain},SASL_SSL://127.0.0.1:{sasl},SSL://127.0.0.1:{ssl}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SASL_SSL:SASL_SSL,SSL:SSL
sasl.enabled.mechanisms=SCRAM-SHA-512
listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config={scram} required;
ssl.keystore.type=PEM
ssl.keystore.location={folder}/broker.pem
ssl.truststore.type=PEM
ssl.truststore.location={folder}/ca.pem
listener.name.ssl.ssl.client.auth=required
ssl.principal.mapping.rules=RULE:^CN=([^,]+).*$/$1/
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS
"""


class SecuredBroker(KafkaBroker):
    """One with USER, who has no right at all before `allow`.

    Attributes:
        sasl_ssl, ssl: addresses of these listeners.
        ca: the file of the authority that signed the broker's certificate.
        client: the file of a certificate and key of USER.
    """

    ports_more = 2

    def __init__(self) -> None:
        super().__init__()
        self.sasl_ssl, self.ssl = (f"127.0.0.1:{port}" for port in self._more_ports)

    def start(self) -> None:
        """Start it, and make the user."""
        super().start()
        self._admin = quiet_admin(self.bootstrap)
        info = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096)
        made = UserScramCredentialUpsertion(USER, info, PASSWORD.encode())
        self._admin.alter_user_scram_credentials([made])[USER].result(REQUEST_TIMEOUT_S)

    def allow(self, bindings: Iterable[AclBinding]) -> None:
        """Let these be all that is allowed."""
        everything = AclBindingFilter(
            ResourceType.ANY,
            None,
            ResourcePatternType.ANY,
            None,
            None,
            AclOperation.ANY,
            AclPermissionType.ANY,
        )
        for gone in self._admin.delete_acls([everything]).values():
            gone.result(REQUEST_TIMEOUT_S)
        if granted := list(bindings):
            for made in self._admin.create_acls(granted).values():
                made.result(REQUEST_TIMEOUT_S)

    def _properties(self, folder: Path) -> str:
        authority = Authority(folder, "ca")
        authority.issue("broker", ["127.0.0.1"])
        self.ca, self.client = authority.path, authority.issue(USER)
        sasl, ssl = self._more_ports
        return _PROPERTIES.format(
            scram=_SCRAM,
            folder=folder,
            plain=self._port,
            controller=self._controller_port,
            sasl=sasl,
            ssl=ssl,
        )
