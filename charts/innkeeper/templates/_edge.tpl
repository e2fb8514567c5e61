{{/* What is for everybody: events (and webhooks by event key), webhooks, and the page that approves a new one where it is on. */}}
{{- define "innkeeper.publicPaths" -}}
- /e/
- /w/
{{- if .Values.webhookIntents.enabled }}
- /intent/
{{- end }}
{{- end }}
