import { alerting } from '../../lib/api/alerting';
import { merged, type Alert, type AlertGroup } from '../../lib/alerts/model';
import { now } from '../../lib/time/clock';

const EVERY_MS = 5_000;
/** Long lists are asked for less often, so that asking is never most of what is done. */
const REST_PER_ASKING = 8;

/** All alerts, asked for again and again while somebody looks. */
export class AlertFeed {
  alerts = $state.raw<Alert[] | null>(null);
  groups = $state.raw<AlertGroup[]>([]);
  /** Why what is shown is old, or why there is nothing. */
  fault = $state('');
  /** Why nothing is known of who is told. */
  notifierFault = $state('');
  at = $state(now());
  #again: () => void = () => undefined;

  watch(): () => void {
    const stop = new AbortController();
    let timer: ReturnType<typeof setTimeout> | undefined;
    const look = async (): Promise<void> => {
      clearTimeout(timer);
      const started = performance.now();
      if (!document.hidden || this.alerts === null) await this.#look(stop.signal);
      if (stop.signal.aborted) return;
      timer = setTimeout(() => void look(), Math.max(EVERY_MS, REST_PER_ASKING * (performance.now() - started)));
    };
    const seen = () => {
      if (!document.hidden) void look();
    };
    this.#again = () => void look();
    document.addEventListener('visibilitychange', seen);
    void look();
    return () => {
      stop.abort();
      clearTimeout(timer);
      document.removeEventListener('visibilitychange', seen);
    };
  }

  /** Looks now: something was changed. */
  refresh(): void {
    this.#again();
  }

  async #look(signal: AbortSignal): Promise<void> {
    const [ofRules, groups] = await Promise.allSettled([alerting.ruleAlerts(signal), alerting.groups(signal)]);
    if (signal.aborted) return;
    this.at = now();
    this.notifierFault = groups.status === 'rejected' ? (groups.reason as Error).message : '';
    if (ofRules.status === 'rejected' && groups.status === 'rejected') {
      this.fault = (ofRules.reason as Error).message;
      return;
    }
    this.fault = ofRules.status === 'rejected' ? (ofRules.reason as Error).message : '';
    const found = merged(ofRules.status === 'fulfilled' ? ofRules.value : [], groups.status === 'fulfilled' ? groups.value : null);
    this.alerts = found.alerts;
    this.groups = found.groups;
  }
}
