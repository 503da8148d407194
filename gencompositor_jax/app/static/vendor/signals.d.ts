export interface Signal<T> { value: T; peek(): T }
export interface ReadonlySignal<T> { readonly value: T; peek(): T }
export function signal<T>(value: T): Signal<T>;
export function computed<T>(read: () => T): ReadonlySignal<T>;
export function effect(run: () => void | (() => void)): () => void;
export function batch<T>(run: () => T): T;
export function untracked<T>(read: () => T): T;
export const useComputed: typeof computed;
export const useSignal: typeof signal;
export function useSignalEffect(run: () => void | (() => void)): void;
