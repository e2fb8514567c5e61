{{- define "innkeeper.operatorSubject" -}}
- kind: ServiceAccount
  name: {{ include "innkeeper.fullname" . }}-operator
  namespace: {{ .Release.Namespace | quote }}
{{- end }}

{{/* What the operator does in every namespace that it looks after. It writes with apply and patch alone. */}}
{{- define "innkeeper.operatorRules" -}}
- apiGroups: [innkeeper.dev]
  resources: [inngestapps]
  verbs: [get, list, watch, patch{{ if eq .Values.autoRegister "Always" }}, create{{ end }}]
- apiGroups: [innkeeper.dev]
  resources: [functions]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [innkeeper.dev]
  resources: [webhooks]
  verbs: [get, list, watch]
- apiGroups: [innkeeper.dev]
  resources: [inngestapps/status, functions/status, webhooks/status]
  verbs: [patch]
- apiGroups: [innkeeper.dev]
  resources: [inngestapps/finalizers]
  verbs: [update]
- apiGroups: [""]
  resources: [services, pods, configmaps]
  verbs: [get, list, watch]
- apiGroups: [discovery.k8s.io]
  resources: [endpointslices]
  verbs: [get, list, watch]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create]
{{- if eq .Values.secrets.mode "Labelled" }}
{{- if .Values.webhookIntents.enabled }}
# A webhook that somebody has approved on the gateway's page: its Secret, then it.
- apiGroups: [innkeeper.dev]
  resources: [webhooks]
  verbs: [create]
{{- end }}
- apiGroups: [""]
  resources: [secrets]
  verbs: [get, list, watch, create, patch]
{{- end }}
{{- end }}
