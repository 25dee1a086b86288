"""Incidents as they are kept: what the rules decide is written with the facts that tell of it, in one atomic batch.
Any number of remedy daemons may write at once; each decides again when another one was quicker."""

import asyncio
import hashlib
from collections.abc import Callable
from datetime import datetime, timedelta

import structlog

from fleetcast.config.incidents import IncidentSettings
from fleetcast.daemons.remedy.incidents import reading, rules
from fleetcast.daemons.remedy.incidents.commands import (
    AboutIncident,
    Acknowledge,
    AddSilence,
    AnyRequest,
    EndSilence,
    GetIncident,
    IncidentAnswer,
    ListIncidents,
    ListSilences,
    Note,
    Order,
)
from fleetcast.daemons.remedy.incidents.noticing import News
from fleetcast.daemons.remedy.incidents.rules import NOTHING, Cleared, Decision, Raised, Said, Told
from fleetcast.daemons.remedy.incidents.silences import Hush, ended, hush, in_force
from fleetcast.daemons.remedy.ledger import Antecedent, Found, RemedyLedger, stored
from fleetcast.events.envelope import Event
from fleetcast.events.ids import crockford
from fleetcast.events.incidents import (
    AboutResource,
    IncidentChanged,
    IncidentOpened,
    IncidentPhase,
    IncidentState,
    SilenceState,
    incident_key,
    incident_subject,
    past_subject,
    silence_subject,
)
from fleetcast.registry.commands import stamp

log = structlog.get_logger("fleetcast.remedy")

Decide = Callable[[Found[IncidentState]], Decision]


class Incidents:
    """Owner of the incidents, over a ledger.

    Attributes:
        now: the server's time.
    """

    def __init__(self, ledger: RemedyLedger, settings: IncidentSettings, now: Callable[[], datetime]) -> None:
        self.now = now
        self._ledger = ledger
        self._settings = settings
        self._keys: dict[str, str] = {}
        self._actor = f"/fleet/{ledger.bus.node}/{ledger.bus.daemon}"

    # -- what is said

    async def take(self, news: News) -> IncidentState | None:
        """Take a statement into account; the incident as it is then, None: there is none.

        Raises:
            BusUnavailable: nothing could be stored; taking it again is safe.
            RecordDamaged: what is stored cannot be read.
        """
        key = incident_key(news.about)

        def decide(found: Found[IncidentState]) -> Decision:
            if isinstance(news, Cleared):
                return rules.cleared(found.value, news, self._settings)
            return self._raised(found.value, news)

        return await self._settle(key, decide, news.said)

    def _raised(self, current: IncidentState | None, news: Raised) -> Decision:
        age = self.now() - news.said.at
        if (current is None or current.ended) and age > timedelta(seconds=self._settings.forget_seconds):
            log.info("incident.forgotten", event_id=news.said.id, trigger=news.about.trigger, age=str(age))
            return NOTHING
        return rules.raised(current, news, self._settings)

    async def note(
        self,
        incident: str,
        what: str,
        by: str,
        detail: str,
        phase: IncidentPhase | None = None,
        *,
        run: str | None = None,
        request: str | None = None,
        told: bool = True,
    ) -> IncidentState | None:
        """Add to an incident what was done about it, and bring it to another phase; None: there is no such incident, or
        its key has a later one.

        *run*: the playbook run that did it. *request*: the same one is noted once; default: one of the same words.
        *told*: the fleet is told even where it only adds to the timeline.

        Raises:
            BusUnavailable: it could not be stored; noting it again is safe.
        """
        key = await self._key_of(incident)
        if key is None:
            log.warning("incident.unknown", incident=incident, what=what, detail=detail)
            return None
        said = self._said(request or _digest(incident, what, by, detail, str(phase), run or ""), by)

        def decide(found: Found[IncidentState]) -> Decision:
            if found.value is None or found.value.incident != incident:
                return NOTHING
            return rules.noted(found.value, said, what, detail, phase=phase, run=run, told=told)

        state = await self._settle(key, decide, said)
        return state if state is not None and state.incident == incident else None

    # -- what time makes of them

    async def look(self, state: IncidentState, silenced: list[SilenceState]) -> IncidentState | None:
        """Let time pass for an incident: its hold-down, and what silences it. Errors as `take`."""
        if not self._is_due(state, silenced):
            return state
        key = incident_key(AboutResource(**state.model_dump(include=set(AboutResource.model_fields))))

        def decide(found: Found[IncidentState]) -> Decision:
            if found.value is None or found.value.incident != state.incident:
                return NOTHING
            return self._passed(found.value, found.sequence, silenced)

        return await self._settle(key, decide, self._said(state.incident, self._actor))

    def _is_due(self, state: IncidentState, silenced: list[SilenceState]) -> bool:
        return self._passed(state, 0, silenced).state is not None

    def _passed(self, state: IncidentState, sequence: int, silenced: list[SilenceState]) -> Decision:
        said = self._said(f"{state.incident}/{sequence}", self._actor)
        over = rules.passed(state, said, self._settings)
        if over.state is not None:
            return over
        found = self._hush(state, silenced)
        detail = found.reason if found else "nothing silences it any more"
        return rules.hushed(state, said, found.by if found else None, detail)

    def _hush(self, state: IncidentState, silenced: list[SilenceState]) -> Hush | None:
        return hush(state, silenced, self._settings.maintenance, self.now())

    # -- what people ask

    async def handle(self, request: AnyRequest) -> IncidentAnswer:
        """The answer to a request; errors as `take`."""
        match request:
            case ListIncidents():
                return reading.chosen(await reading.incidents(self._ledger.bus, ended=request.ended), request)
            case GetIncident():
                return reading.named(await reading.incidents(self._ledger.bus, ended=True), request)
            case ListSilences():
                known = await reading.silences(self._ledger.bus)
                return reading.holding(known, self.now(), ended=request.ended)
            case AddSilence():
                return await self._silence(request)
            case EndSilence():
                return await self._unsilence(request)
            case _:
                return await self._change(request)

    async def _change(self, request: AboutIncident) -> IncidentAnswer:
        known = await reading.incidents(self._ledger.bus, ended=True)
        answer = reading.named(known, GetIncident(incident=request.incident))
        if answer.outcome != "done":
            return answer
        (before,) = answer.incidents
        key = _key(before)
        said = self._said(request.request, request.actor)

        def decide(found: Found[IncidentState]) -> Decision:
            if found.value is None or found.value.incident != before.incident:
                return NOTHING
            return _asked(found.value, request, said)

        after = await self._settle(key, decide, said)
        return _outcome(request, before, after)

    async def _silence(self, request: AddSilence) -> IncidentAnswer:
        silence = f"sil-{_short(request.request)}"
        now = self.now()
        state = SilenceState(
            silence=silence,
            **request.model_dump(include={"resource", "node", "trigger", "below"}),
            at=stamp(now),
            until=stamp(now + timedelta(seconds=request.seconds)),
            by=request.actor,
            reason=request.reason,
        )

        async def attempt() -> SilenceState:
            found = await self._ledger.find(silence_subject(silence), SilenceState)
            if found.value is None:
                await self._ledger.write([stored(silence_subject(silence), state, found.sequence)])
            return found.value or state

        kept = await self._ledger.until_settled(silence, attempt)
        log.info("incident.silence", silence=silence, until=kept.until, by=kept.by, reason=kept.reason)
        concerned = await self._look_at_all()
        message = f"{silence} holds until {kept.until}: {concerned} open incident{'s' * (concerned != 1)} silenced"
        step = f"fleetcast unsilence {silence}"
        return IncidentAnswer(message=message, next_step=step, silences=(kept,))

    async def _unsilence(self, request: EndSilence) -> IncidentAnswer:
        subject = silence_subject(request.silence)

        async def attempt() -> tuple[SilenceState | None, bool]:
            found = await self._ledger.find(subject, SilenceState)
            if found.value is None or not in_force(found.value, self.now()):
                return found.value, False
            state = ended(found.value, by=request.actor, at=self.now())
            await self._ledger.write([stored(subject, state, found.sequence)])
            return state, True

        state, changed = await self._ledger.until_settled(request.silence, attempt)
        if state is None:
            message = f"there is no silence {request.silence}"
            return IncidentAnswer(outcome="unknown", message=message, next_step="fleetcast silences")
        if not changed:
            return IncidentAnswer(outcome="nothing", message=f"{request.silence} holds no more", silences=(state,))
        await self._look_at_all()
        return IncidentAnswer(message=f"{request.silence} has ended: people are told again", silences=(state,))

    async def _look_at_all(self) -> int:
        """Let a silence that was just said hold at once; how many incidents are silenced now."""
        known = await reading.silences(self._ledger.bus)
        states = [each for each in await reading.incidents(self._ledger.bus) if not each.ended]
        looked = await asyncio.gather(*(self.look(state, known) for state in states))
        return sum(each is not None and each.silenced and not each.ended for each in looked)

    # -- writing

    def _said(self, request: str, by: str) -> Said:
        return Said(id=request, correlation=request, at=self.now(), by=by)

    async def _key_of(self, incident: str) -> str | None:
        if incident not in self._keys:
            self._keys = {each.incident: _key(each) for each in await reading.incidents(self._ledger.bus)}
        return self._keys.get(incident)

    async def _settle(self, key: str, decide: Decide, said: Said) -> IncidentState | None:
        """Write what *decide* makes of the newest incident of *key*; the incident as it is then."""

        async def attempt() -> IncidentState | None:
            found = await self._ledger.find(incident_subject(key), IncidentState)
            decision = decide(found)
            if decision.state is None:
                return found.value
            return await self._write(key, found, decision, said)

        return await self._ledger.until_settled(key, attempt)

    async def _write(self, key: str, found: Found[IncidentState], decision: Decision, said: Said) -> IncidentState:
        state = decision.state
        assert state is not None
        if any(each.what == "opened" for each in decision.told):
            state = await self._hushed(state)
        states = [stored(incident_subject(key), state, found.sequence)]
        if decision.past is not None:
            states.append(stored(past_subject(decision.past.incident), decision.past, 0))
        facts = [self._fact(state, told, said, found.sequence) for told in decision.told]
        await self._ledger.write(states, facts)
        for told in decision.told:
            log.info(
                "incident.changed",
                what=told.what,
                incident=state.incident,
                resource=state.what,
                trigger=state.trigger,
                severity=state.severity.value,
                phase=state.phase.value,
                by=told.by,
                detail=told.detail,
                silenced=state.silenced,
                correlation_id=state.correlation,
            )
        return state

    async def _hushed(self, state: IncidentState) -> IncidentState:
        """A new incident, of which nobody is told where that was asked for."""
        found = self._hush(state, await reading.silences(self._ledger.bus))
        return state.model_copy(update={"silenced": True, "silenced_by": found.by}) if found else state

    def _fact(self, state: IncidentState, told: Told, said: Said, sequence: int) -> Event:
        about = state.model_dump(include=set(IncidentOpened.model_fields) - {"by", "reason"})
        payload: IncidentOpened | IncidentChanged
        if told.what == "opened":
            payload = IncidentOpened(**about, by=told.by, reason=told.detail)
        else:
            shared = {name: value for name, value in about.items() if name in IncidentChanged.model_fields}
            times = rules.times(state)
            payload = IncidentChanged(
                **shared,
                by=told.by,
                reason=told.detail,
                detail=told.detail,
                from_phase=told.from_phase,
                what=told.what,
                time_to_detect_seconds=times.detect_seconds,
                time_to_mitigate_seconds=times.mitigate_seconds,
                time_to_resolve_seconds=times.resolve_seconds,
            )
        cause = Antecedent(said.id, state.correlation)
        return self._ledger.fact(payload, cause, f"{state.incident}/{told.what}/{sequence}")


def _key(state: IncidentState) -> str:
    return incident_key(AboutResource(**state.model_dump(include=set(AboutResource.model_fields))))


def _asked(state: IncidentState, request: Order, said: Said) -> Decision:
    if isinstance(request, Acknowledge):
        return rules.acknowledged(state, said, request.reason)
    if isinstance(request, Note):
        return rules.noted(state, said, "note", request.reason, phase=request.phase, run=None)
    return rules.resolved(state, said, request.reason)


def _outcome(request: AboutIncident, before: IncidentState, after: IncidentState | None) -> IncidentAnswer:
    """What became of an order about one incident."""
    if after is None or after.incident != before.incident:
        newer = f"fleetcast incident {after.incident}" if after else "fleetcast incidents"
        message = f"{before.incident} is past: a later incident has its place"
        return IncidentAnswer(outcome="refused", message=message, next_step=newer, incidents=(before,))
    if request.request not in after.seen:
        by = f" by {after.acknowledged_by}" if isinstance(request, Acknowledge) and after.acknowledged_by else ""
        message = f"{after.incident} is {after.phase}{by} already"
        return IncidentAnswer(outcome="nothing", message=message, incidents=(after,))
    what = f"{after.incident} ({after.title})"
    if isinstance(request, Note) and after.phase is before.phase:
        return IncidentAnswer(message=f"noted on {what}, which is {after.phase}", incidents=(after,))
    return IncidentAnswer(message=f"{what} is {after.phase}", incidents=(after,))


def _digest(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:26]


def _short(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return crockford(int.from_bytes(digest[:8]) >> 14, 10).lower()
