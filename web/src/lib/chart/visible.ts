/** Tells an element's owner when it comes near the viewport or leaves it; one observer serves all. */

const callbacks = new WeakMap<Element, (visible: boolean) => void>();

const observer = new IntersectionObserver(
  (entries) => {
    for (const entry of entries) callbacks.get(entry.target)?.(entry.isIntersecting);
  },
  { rootMargin: '80px' },
);

export function watchVisibility(element: Element, changed: (visible: boolean) => void): () => void {
  callbacks.set(element, changed);
  observer.observe(element);
  return () => {
    observer.unobserve(element);
    callbacks.delete(element);
  };
}
