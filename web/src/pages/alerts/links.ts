/** Where an expression of a rule is looked at: as a graph of Explore, or on the page of logs. */
export function queryPath(query: string, language: string | undefined): string {
  if (language === 'logql') return `/logs?${new URLSearchParams({ q: query, tab: 'graph' })}`;
  return `/explore?${new URLSearchParams({ q: query, range: '1h' })}`;
}
