import { tenant } from '../../lib/tenant.svelte';

const MISSED = /^prometheus_rule_group_iterations_missed_total\{rule_group="((?:[^"\\]|\\.)*)"\} (\d+)/;

/** How many evaluations each group, `FILE;NAME`, missed in this process; nothing where that is not told. */
export async function missedBy(signal: AbortSignal): Promise<Map<string, number>> {
  const found = new Map<string, number>();
  try {
    const response = await fetch('/metrics', { signal, headers: tenant.headers() });
    if (!response.ok) return found;
    for (const line of (await response.text()).split('\n')) {
      const [, group, count] = MISSED.exec(line) ?? [];
      if (group !== undefined) found.set(group.replace(/\\(.)/g, (_, sign: string) => (sign === 'n' ? '\n' : sign)), Number(count));
    }
  } catch {
    // It is beside what the page is for.
  }
  return found;
}
