{{/*
What objects are called. 40 characters at most, so that every name made from it is a DNS label (63), and a
StatefulSet's revision still fits into a label's value. A name that had to be changed carries a hash of the release's,
so that two releases never meet.
*/}}
{{- define "innkeeper.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride -}}
{{- else if eq .Release.Name .Chart.Name -}}
{{- .Release.Name -}}
{{- else -}}
{{- $wanted := printf "%s-%s" .Release.Name .Chart.Name -}}
{{- $name := replace "." "-" $wanted -}}
{{- if not (regexMatch "^[a-z]" $name) -}}
{{- $name = printf "r-%s" $name -}}
{{- end -}}
{{- if or (ne $name $wanted) (gt (len $name) 40) -}}
{{- printf "%s-%s" (trunc 31 $name | trimSuffix "-") (sha256sum .Release.Name | trunc 8) -}}
{{- else -}}
{{- $name -}}
{{- end -}}
{{- end -}}
{{- end }}

{{/* The name of what lives outside the release's namespace: no other release can have it. */}}
{{- define "innkeeper.clusterName" -}}
{{- printf "%s-%s.%s" (include "innkeeper.fullname" .root) .suffix .root.Release.Namespace -}}
{{- end }}

{{- define "innkeeper.encryptionSecret" -}}
{{- .Values.encryptionKey.existingSecret | default (printf "%s-encryption-key" (include "innkeeper.fullname" .)) -}}
{{- end }}

{{- define "innkeeper.encryptionSecretKey" -}}
{{- ternary .Values.encryptionKey.key "encryption-key" (ne .Values.encryptionKey.existingSecret "") -}}
{{- end }}

{{- define "innkeeper.webhookSecret" -}}
{{- .Values.webhookKey.existingSecret | default (printf "%s-webhooks" (include "innkeeper.fullname" .)) -}}
{{- end }}

{{- define "innkeeper.webhookSecretKey" -}}
{{- ternary .Values.webhookKey.key "webhook-key" (ne .Values.webhookKey.existingSecret "") -}}
{{- end }}

{{- define "innkeeper.valkeySecret" -}}
{{- .Values.valkey.existingSecret | default (printf "%s-valkey" (include "innkeeper.fullname" .)) -}}
{{- end }}

{{- define "innkeeper.redisSecret" -}}
{{- if .Values.valkey.enabled -}}
{{- include "innkeeper.valkeySecret" . -}}
{{- else -}}
{{- .Values.redis.existingSecret -}}
{{- end -}}
{{- end }}

{{- define "innkeeper.redisSecretKey" -}}
{{- ternary "url" .Values.redis.urlKey .Values.valkey.enabled -}}
{{- end }}

{{- define "innkeeper.baseUrl" -}}
{{- $service := printf "http://%s-gateway.%s.svc:%d" (include "innkeeper.fullname" .) .Release.Namespace (int .Values.gateway.service.port) -}}
{{- .Values.baseUrl | default $service -}}
{{- end }}

{{/*
Where providers of webhooks reach the gateway; empty: where apps do. The Ingress's host is taken only where its
certificate is for it by name: whether a Gateway's listener has TLS, or which host stands for a wildcard, is not known here.
*/}}
{{- define "innkeeper.webhooksUrl" -}}
{{- $events := .Values.ingress.events -}}
{{- if .Values.webhooksUrl -}}
{{- .Values.webhooksUrl -}}
{{- else if $events.enabled -}}
{{- $host := first $events.hosts -}}
{{- $secure := false -}}
{{- range $events.tls -}}
{{- if has $host (.hosts | default list) -}}{{- $secure = true -}}{{- end -}}
{{- end -}}
{{- if and $secure (not (hasPrefix "*" $host)) -}}https://{{ $host }}{{- end -}}
{{- end -}}
{{- end }}

{{/* root, component */}}
{{- define "innkeeper.selectorLabels" -}}
app.kubernetes.io/name: {{ .root.Chart.Name }}
app.kubernetes.io/instance: {{ .root.Release.Name | quote }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{/* Nothing that changes with the chart's version: a new chart alone starts no pod anew. root, component */}}
{{- define "innkeeper.podLabels" -}}
{{ include "innkeeper.selectorLabels" . }}
app.kubernetes.io/part-of: innkeeper
{{- end }}

{{/* root, component */}}
{{- define "innkeeper.labels" -}}
{{ include "innkeeper.podLabels" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- end }}

{{/* image (registry, repository, tag, digest), tag */}}
{{- define "innkeeper.image" -}}
{{- $tag := .image.tag | default .tag -}}
{{- $at := ternary (printf "@%s" .image.digest) (printf ":%s" $tag) (ne .image.digest "") -}}
{{- if .image.registry -}}
{{- printf "%s/%s%s" .image.registry .image.repository $at -}}
{{- else -}}
{{- printf "%s%s" .image.repository $at -}}
{{- end -}}
{{- end }}

{{/* Label matchers of the series of this release alone, as its ServiceMonitors have Prometheus label them. */}}
{{- define "innkeeper.metricsSelector" -}}
namespace="{{ .Release.Namespace }}",job=~"{{ include "innkeeper.fullname" . }}-(metrics|executor|operator)"
{{- end }}
