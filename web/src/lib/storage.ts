/** Small persisted preferences. Storage may be blocked or full; then a preference lasts as long as the page. */

const PREFIX = 'watchfire.';

export function load<T>(key: string, valid: (value: unknown) => value is T): T | null {
  try {
    const text = localStorage.getItem(PREFIX + key);
    if (text === null) return null;
    const value: unknown = JSON.parse(text);
    return valid(value) ? value : null;
  } catch {
    return null;
  }
}

export function save(key: string, value: unknown): void {
  try {
    localStorage.setItem(PREFIX + key, JSON.stringify(value));
  } catch {
    // Private windows and full storage: the choice simply does not outlive the page.
  }
}
