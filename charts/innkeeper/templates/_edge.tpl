{{/* What is for everybody: events (and webhooks by event key), webhooks, and the page that approves a new webhook. */}}
{{- define "innkeeper.publicPaths" -}}
- /e/
- /w/
- /intent/
{{- end }}
