/** Rules and alerts as Prometheus tells them, alerts and silences as Alertmanager does, and what neither tells. */

import { bare, bareText, get, send, type Labels } from './client';

export interface RuleAlert {
  labels: Labels;
  annotations: Labels;
  state: 'pending' | 'firing' | 'inactive';
  activeAt: string;
  value: string;
  keepFiringSince?: string;
}

interface AnyRule {
  name: string;
  query: string;
  labels?: Labels;
  health: string;
  lastError?: string;
  evaluationTime: number;
  lastEvaluation: string;
}

export interface AlertingRule extends AnyRule {
  type: 'alerting';
  state: 'firing' | 'pending' | 'inactive' | 'unknown';
  /** `for`, in seconds. */
  duration: number;
  keepFiringFor: number;
  annotations: Labels;
  alerts: RuleAlert[];
}

export interface RecordingRule extends AnyRule {
  type: 'recording';
}

export type Rule = AlertingRule | RecordingRule;

export interface RuleGroup {
  name: string;
  file: string;
  rules: Rule[];
  /** Seconds. */
  interval: number;
  limit: number;
  evaluationTime: number;
  lastEvaluation: string;
  /** Absent: PromQL. */
  language?: string;
  /** Whether it is changed here, and not in a file. */
  managed?: boolean;
}

export type RuleLanguage = 'promql' | 'logql';

/** A group that is kept by the API; its file is the namespace. */
export interface ManagedGroup {
  language: RuleLanguage;
  namespace: string;
  name: string;
  /** Why it has no effect, if it has none. */
  error: string | null;
}

/** Line and column count from 1; line 0 is the whole. */
export interface RuleFault {
  line: number;
  column: number;
  message: string;
  help: string | null;
}

/** A rule that was evaluated for nobody but whoever writes it. */
export type PreviewedRule = Rule & {
  index: number;
  samples: number;
  series: { labels: Labels; value: string }[];
};

export interface GroupPreview {
  faults: RuleFault[];
  name: string | null;
  rules: { type: Rule['type']; name: string; line: number }[];
  rule: PreviewedRule | null;
}

export interface GroupWish {
  language: RuleLanguage;
  namespace: string;
  group: string;
  /** Where the rule stands that is evaluated. */
  line?: number;
}

export interface Mute {
  state: 'active' | 'suppressed' | 'unprocessed';
  silencedBy: string[];
  inhibitedBy: string[];
  mutedBy: string[];
}

export interface NotifiedAlert {
  fingerprint: string;
  labels: Labels;
  annotations: Labels;
  startsAt: string;
  endsAt: string;
  updatedAt: string;
  generatorURL?: string;
  receivers: { name: string }[];
  status: Mute;
}

export interface NotifiedGroup {
  labels: Labels;
  receiver: { name: string };
  alerts: NotifiedAlert[];
}

export interface SilenceMatcher {
  name: string;
  value: string;
  isRegex: boolean;
  isEqual: boolean;
}

/** When a silence holds between its ends; of a part that is missing anything will do. */
export interface Interval {
  times?: { start_time: string; end_time: string }[];
  weekdays?: string[];
  days_of_month?: string[];
  months?: string[];
  years?: string[];
  location?: string;
}

export interface SilenceDraft {
  id?: string;
  matchers: SilenceMatcher[];
  startsAt: string;
  endsAt: string;
  createdBy: string;
  comment: string;
  annotations?: Labels;
  intervals?: Interval[];
}

export interface Silence extends SilenceDraft {
  id: string;
  status: { state: 'active' | 'pending' | 'expired' };
  updatedAt: string;
}

export interface RouteEnd {
  id: string;
  receiver: string;
  groupLabels: Labels;
  groupKey: string;
  mutedBy: string[];
}

/** What came of telling a receiver in one way about a group. */
export interface Way {
  integration: string;
  index: number;
  /** When there was last something to tell, which may still be under way. */
  notifiedAt: string | null;
  /** When it was last told. */
  deliveredAt: string | null;
  reason: string | null;
  attempts: number;
  /** Of the last attempt; null if that worked. */
  error: string | null;
}

export interface Explanation {
  state: Mute['state'];
  labels: Labels;
  inhibitedBy: { fingerprint: string; labels: Labels; startsAt?: string }[];
  silencedBy: Silence[];
  mutedBy: string[];
  routes: RouteEnd[];
  groups: {
    key: string;
    route: string;
    labels: Labels;
    receiver: string;
    alerts: number;
    mutedBy: string[];
    lastFlush: string | null;
    nextFlush: string;
    integrations: Way[];
  }[];
}

export interface RouteNode {
  id: string;
  receiver: string;
  matchers: string[];
  /** Null: all labels. */
  groupBy: string[] | null;
  groupWaitSeconds: number;
  groupIntervalSeconds: number;
  repeatIntervalSeconds: number;
  muteTimeIntervals: string[];
  activeTimeIntervals: string[];
  mutedBy: string[];
  continue: boolean;
  firing: number;
  routes: RouteNode[];
}

export interface Delivery {
  atMs: number;
  tookSeconds: number;
  receiver: string;
  integration: string;
  index: number;
  groupKey: string;
  groupLabels: Labels;
  route: string;
  reason: string;
  firing: number;
  resolved: number;
  alerts: string[];
  attempt: number;
  outcome: 'delivered' | 'retry' | 'failed';
  error: string | null;
}

export interface Receiver {
  name: string;
  labels: Labels;
  integrations: {
    integration: string;
    index: number;
    sendResolved: boolean;
    lastDelivered: Delivery | null;
    lastFailed: Delivery | null;
    /** Attempts since the start. */
    counts: { attempts: number; delivered: number; retried: number; failed: number };
  }[];
}

export interface Tested {
  integration: string;
  index: number;
  outcome: Delivery['outcome'];
  error: string | null;
  tookSeconds: number;
}

export type Rendered = { text: string } | { error: { message: string; template: string; line: number | null; column: number | null } };

export interface RenderWish {
  template: string;
  html?: boolean;
  fingerprint?: string;
  alerts?: { labels: Labels; annotations?: Labels; startsAt?: string }[];
  receiver?: string;
}

const asked = (params: Record<string, string>): string => new URLSearchParams(params).toString();
const json = (method: string, body: unknown): RequestInit => ({
  method,
  body: JSON.stringify(body),
  headers: { 'Content-Type': 'application/json' },
});
const OWN = '/api/v1/notifications';
const CONFIG = { promql: '/prometheus/config/v1/rules', logql: '/loki/api/v1/rules' };
const placeOf = (language: RuleLanguage, ...names: string[]): string => [CONFIG[language], ...names.map(encodeURIComponent)].join('/');

export const alerting = {
  rules: async (signal?: AbortSignal) => (await get<{ groups: RuleGroup[] }>('/api/v1/rules', signal)).groups,
  rulesNamed: async (name: string, signal?: AbortSignal) =>
    (await get<{ groups: RuleGroup[] }>(`/api/v1/rules?${asked({ type: 'alert', 'rule_name[]': name })}`, signal)).groups,
  ruleAlerts: async (signal?: AbortSignal) => (await get<{ alerts: RuleAlert[] }>('/api/v1/alerts', signal)).alerts,
  managed: async (signal?: AbortSignal) => (await get<{ groups: ManagedGroup[] }>('/api/v1/rule_groups', signal)).groups,
  /** The YAML of a group that is kept by the API. */
  managedGroup: (language: RuleLanguage, namespace: string, name: string) => bareText(placeOf(language, namespace, name)),
  keepGroup: (language: RuleLanguage, namespace: string, yaml: string) =>
    bare<unknown>(placeOf(language, namespace), { method: 'POST', body: yaml, headers: { 'Content-Type': 'application/yaml' } }),
  forgetGroup: (language: RuleLanguage, namespace: string, name: string) => bare<unknown>(placeOf(language, namespace, name), { method: 'DELETE' }),
  previewGroup: (wish: GroupWish) => send<GroupPreview>('POST', '/api/v1/rule_groups/preview', wish),
  groups: (signal?: AbortSignal) => bare<NotifiedGroup[]>('/api/v2/alerts/groups', { signal: signal ?? null }),
  /** Those alone that somebody is told of: neither silenced, inhibited nor muted. */
  activeGroups: (filter: string) => bare<NotifiedGroup[]>(`/api/v2/alerts/groups?${asked({ silenced: 'false', inhibited: 'false', muted: 'false', filter })}`),
  alerts: (signal?: AbortSignal) => bare<NotifiedAlert[]>('/api/v2/alerts', { signal: signal ?? null }),
  silences: (signal?: AbortSignal) => bare<Silence[]>('/api/v2/silences', { signal: signal ?? null }),
  silence: (id: string) => bare<Silence>(`/api/v2/silence/${encodeURIComponent(id)}`),
  /** Yields the silence's id, which is a new one if the change makes another silence of it. */
  saveSilence: async (draft: SilenceDraft) => (await bare<{ silenceID: string }>('/api/v2/silences', json('POST', draft))).silenceID,
  expireSilence: (id: string) => bare<void>(`/api/v2/silence/${encodeURIComponent(id)}`, { method: 'DELETE' }),
  explain: (fingerprint: string, signal?: AbortSignal) => get<Explanation>(`${OWN}/explain?${asked({ fingerprint })}`, signal),
  explainLabels: (labels: Labels, signal?: AbortSignal) => get<Explanation>(`${OWN}/explain?${asked({ labels: JSON.stringify(labels) })}`, signal),
  receivers: async (signal?: AbortSignal) => (await get<{ receivers: Receiver[] }>(`${OWN}/receivers`, signal)).receivers,
  deliveries: async (params: Record<string, string>, signal?: AbortSignal) =>
    (await get<{ deliveries: Delivery[] }>(`${OWN}/deliveries?${asked(params)}`, signal)).deliveries,
  routes: async (signal?: AbortSignal) => (await get<{ route: RouteNode }>(`${OWN}/routes`, signal)).route,
  routesOf: async (labels: Labels, signal?: AbortSignal) =>
    (await get<{ routes: RouteEnd[] }>(`${OWN}/routes/match?${asked({ labels: JSON.stringify(labels) })}`, signal)).routes,
  /** Which alerts that fire now a silence would be for. */
  previewSilence: (matchers: SilenceMatcher[]) => send<{ count: number; alerts: NotifiedAlert[] }>('POST', `${OWN}/silence_preview`, { matchers }),
  render: (wish: RenderWish) => send<Rendered>('POST', `${OWN}/render`, wish),
  test: async (receiver: string) => (await send<{ results: Tested[] }>('POST', `${OWN}/test`, { receiver })).results,
};
