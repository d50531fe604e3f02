/**
 * The address bar is the state: pages read path and parameters from here and write them back with
 * {@link navigate}. Nothing else decides what is shown, so every view can be shared as a link.
 */

export type Route =
  | { page: 'hosts' }
  | { page: 'host'; instance: string }
  | { page: 'explore' }
  | { page: 'logs' }
  | { page: 'alerts' }
  | { page: 'rules' }
  | { page: 'silences' }
  | { page: 'receivers' }
  | { page: 'agents' }
  | { page: 'targets' }
  | { page: 'queries' }
  | { page: 'cardinality' }
  | { page: 'pushes' }
  | { page: 'status' }
  | { page: 'cluster' }
  | { page: 'access' }
  | { page: 'setup' }
  | { page: 'missing'; path: string };

let url = $state.raw(new URL(location.href));

addEventListener('popstate', () => {
  url = new URL(location.href);
});

export function match(pathname: string): Route {
  if (pathname === '/' || pathname === '/hosts') return { page: 'hosts' };
  if (pathname === '/explore') return { page: 'explore' };
  if (pathname === '/logs') return { page: 'logs' };
  if (pathname === '/alerts') return { page: 'alerts' };
  if (pathname === '/rules') return { page: 'rules' };
  if (pathname === '/silences') return { page: 'silences' };
  if (pathname === '/receivers') return { page: 'receivers' };
  if (pathname === '/agents') return { page: 'agents' };
  if (pathname === '/targets') return { page: 'targets' };
  if (pathname === '/queries') return { page: 'queries' };
  if (pathname === '/cardinality') return { page: 'cardinality' };
  if (pathname === '/pushes') return { page: 'pushes' };
  if (pathname === '/status') return { page: 'status' };
  if (pathname === '/cluster') return { page: 'cluster' };
  if (pathname === '/access') return { page: 'access' };
  if (pathname === '/setup') return { page: 'setup' };
  // Empty is the host of samples that came without an instance label.
  const host = /^\/host\/([^/]*)$/.exec(pathname);
  if (host?.[1] !== undefined) {
    try {
      return { page: 'host', instance: decodeURIComponent(host[1]) };
    } catch {
      return { page: 'missing', path: pathname };
    }
  }
  return { page: 'missing', path: pathname };
}

const route = $derived(match(url.pathname));

export const router = {
  get route(): Route {
    return route;
  },
  get params(): URLSearchParams {
    return url.searchParams;
  },
};

export function hostPath(instance: string, job?: string): string {
  const path = `/host/${encodeURIComponent(instance)}`;
  return job === undefined ? path : `${path}?job=${encodeURIComponent(job)}`;
}

/** The lines of a host, between two times or within a last span of time, as agents label them. */
export function logsPath(instance: string, times: Record<string, string | null>): string {
  // Scraped hosts have their port in the label, lines do not.
  const host = instance.replace(/:\d+$/, '').replace(/[\\"]/g, (sign) => `\\${sign}`);
  const params = new URLSearchParams({ q: `{host="${host}"}` });
  for (const [name, value] of Object.entries(times)) if (value !== null) params.set(name, value);
  return `/logs?${params}`;
}

export function navigate(to: string, { replace = false }: { replace?: boolean } = {}): void {
  const next = new URL(to, location.href);
  if (next.href === url.href) return;
  const samePage = next.pathname === url.pathname;
  history[replace ? 'replaceState' : 'pushState'](null, '', next);
  url = next;
  if (!samePage) scrollTo(0, 0);
}

/** Writes parameters into the address; `null` removes one. */
export function setParams(changes: Record<string, string | null>, options?: { replace?: boolean }): void {
  const next = new URL(url);
  for (const [name, value] of Object.entries(changes)) {
    if (value === null) next.searchParams.delete(name);
    else next.searchParams.set(name, value);
  }
  navigate(next.href, options);
}

/** Lets plain links navigate without a reload; new-tab clicks and foreign origins stay the browser's. */
export function followLinks(event: MouseEvent): void {
  if (event.defaultPrevented || event.button !== 0) return;
  if (event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
  const link = event.target instanceof Element ? event.target.closest('a') : null;
  if (!link || link.target || link.origin !== location.origin || link.hasAttribute('download')) return;
  if (link.pathname.startsWith('/api/') || link.pathname.startsWith('/-/') || link.pathname === '/metrics') return;
  if (link.pathname === location.pathname && link.hash) return;
  event.preventDefault();
  navigate(link.href);
}
