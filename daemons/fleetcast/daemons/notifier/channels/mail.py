"""Mail by SMTP, from the standard library, in a thread whose connection ends with the attempt."""

import asyncio
import smtplib
import socket
import ssl
from datetime import datetime
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime

from fleetcast.config.notifier import MailChannel
from fleetcast.daemons.notifier import compose
from fleetcast.daemons.notifier.channels.secrets import SecretMissing, read_secret
from fleetcast.daemons.notifier.rules import Later, Outcome, Refused, Sent
from fleetcast.daemons.notifier.state import Message
from fleetcast.daemons.notifier.topics import line

GREETING = "fleetcast"
SUBJECT, BODY = 200, 100_000
"""Characters of a subject and of a body, at most."""


def letter(message: Message, settings: MailChannel) -> EmailMessage:
    """The mail. What comes from elsewhere stands in the subject and the body alone, each header on one line."""
    mail = EmailMessage(policy=SMTP)
    domain = settings.sender.rpartition("@")[2]
    mail["From"] = settings.sender
    mail["To"] = ", ".join(settings.to)
    mail["Subject"] = line(message.title, SUBJECT)
    mail["Date"] = format_datetime(datetime.fromisoformat(message.made_at))
    mail["Message-ID"] = f"<{message.id}@{domain}>"
    if len(message.sections) == 1:
        # All mails about one incident are one conversation.
        thread = f"<{message.sections[0].topic}@{domain}>"
        mail["In-Reply-To"] = thread
        mail["References"] = thread
    mail["Auto-Submitted"] = "auto-generated"
    mail["X-Fleetcast-Severity"] = message.severity.value
    mail.set_content(compose.text(message)[:BODY], charset="utf-8")
    return mail


class Mail:
    """One server, one sender, some recipients."""

    kind = "mail"

    def __init__(self, settings: MailChannel, *, attempt_seconds: float) -> None:
        self._settings = settings
        self._seconds = attempt_seconds

    async def send(self, message: Message) -> Outcome:
        try:
            place = self._settings.password
            password = await asyncio.to_thread(read_secret, place) if place else ""
        except SecretMissing as e:
            return Later(str(e))
        visit = _Visit(self._settings, password, self._seconds)
        try:
            return await asyncio.to_thread(visit.deliver, letter(message, self._settings))
        finally:
            visit.end()


class _Visit:
    """One connection; blocking, and ended from outside by closing its socket."""

    def __init__(self, settings: MailChannel, password: str, seconds: float) -> None:
        self.settings = settings
        self._password = password
        self.seconds = seconds
        self.server: smtplib.SMTP | None = None
        self._given = False

    def end(self) -> None:
        """Cut the connection: a thread that waits for a slow server comes back at once."""
        sock = self.server.sock if self.server else None
        if sock is not None:
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                return

    def deliver(self, mail: EmailMessage) -> Outcome:
        host = self.settings.host
        try:
            return self._deliver(mail)
        except smtplib.SMTPRecipientsRefused as e:
            codes = {code for code, _ in e.recipients.values()}
            said = f"{host} refuses all recipients ({', '.join(map(str, sorted(codes)))})"
            return Refused(said) if all(code >= 500 for code in codes) else Later(said)
        except smtplib.SMTPAuthenticationError as e:
            return Later(f"{host} refuses the login ({e.smtp_code})")
        except smtplib.SMTPDataError as e:
            said = f"{host} refuses the message ({e.smtp_code})"
            return Refused(said) if e.smtp_code >= 500 else Later(said)
        except smtplib.SMTPResponseException as e:
            return Later(f"{host} answers {e.smtp_code}", unsure=self._given)
        except ssl.SSLCertVerificationError as e:
            return Later(f"{host} cannot be trusted: {e.verify_message}")
        except smtplib.SMTPNotSupportedError:
            return Later(f"{host} offers no {self.settings.security} or no login", unsure=self._given)
        except (OSError, smtplib.SMTPException, ValueError) as e:
            reason = getattr(e, "strerror", None) or type(e).__name__
            return Later(f"{host}: {line(reason, 100)}", unsure=self._given)

    def _deliver(self, mail: EmailMessage) -> Outcome:
        settings = self.settings
        context = None if settings.security == "plain" else ssl.create_default_context(cafile=settings.ca)
        server = self._connected(context)
        try:
            if settings.security == "starttls":
                server.starttls(context=context)
            if settings.user:
                server.login(settings.user, self._password)
            self._given = True
            refused = server.send_message(mail, from_addr=settings.sender, to_addrs=list(settings.to))
        except BaseException:
            server.close()
            raise
        try:
            server.quit()
        except (smtplib.SMTPException, OSError):
            # It has the message; how it says good-bye is its own affair.
            server.close()
        missed = f"; {len(refused)} recipients were refused" if refused else ""
        return Sent(f"{settings.host} has it{missed}")

    def _connected(self, context: ssl.SSLContext | None) -> smtplib.SMTP:
        return _Tls(self, context) if self.settings.security == "tls" else _Plain(self)


class _Plain(smtplib.SMTP):
    """Known to its visit before it connects, so that it can be cut off while it waits for a greeting."""

    def __init__(self, visit: _Visit) -> None:
        visit.server = self
        super().__init__(visit.settings.host, visit.settings.port, local_hostname=GREETING, timeout=visit.seconds)


class _Tls(smtplib.SMTP_SSL):
    """The same, encrypted from the first byte on."""

    def __init__(self, visit: _Visit, context: ssl.SSLContext | None) -> None:
        visit.server = self
        super().__init__(
            visit.settings.host,
            visit.settings.port,
            local_hostname=GREETING,
            timeout=visit.seconds,
            context=context,
        )
