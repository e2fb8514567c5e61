{{/*
The Deployment of a role: gateway, executor or operator.
root, role
*/}}
{{- define "innkeeper.deployment" -}}
{{- $root := .root -}}
{{- $role := .role -}}
{{- $values := index $root.Values $role -}}
{{- $scope := dict "root" $root "role" $role "component" $role "values" $values -}}
{{- $preStop := int ($values.preStopSeconds | default 0) -}}
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ include "innkeeper.fullname" $root }}-{{ $role }}
  namespace: {{ $root.Release.Namespace | quote }}
  labels:
    {{- include "innkeeper.labels" $scope | nindent 4 }}
spec:
  {{- if not (dig "autoscaling" "enabled" false $values) }}
  replicas: {{ int $values.replicas }}
  {{- end }}
  strategy:
    type: RollingUpdate
    rollingUpdate:
      maxUnavailable: 0
      maxSurge: 1
  selector:
    matchLabels:
      {{- include "innkeeper.selectorLabels" $scope | nindent 6 }}
  template:
    metadata:
      labels:
        {{- include "innkeeper.podLabels" $scope | nindent 8 }}
        {{- with $values.podLabels }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      {{- with $values.podAnnotations }}
      annotations:
        {{- toYaml . | nindent 8 }}
      {{- end }}
    spec:
      serviceAccountName: {{ include "innkeeper.fullname" $root }}-{{ $role }}
      automountServiceAccountToken: {{ include "innkeeper.hasToken" $scope | eq "true" }}
      {{- include "innkeeper.podSecurity" (dict "root" $root "user" $root.Values.runAsUser) | nindent 6 }}
      # The time to leave the load balancers, to drain, and to hand back what is left.
      terminationGracePeriodSeconds: {{ add $preStop (ceil $values.graceSeconds | int) 15 }}
      {{- with include "innkeeper.placement" $scope | trim }}
      {{- . | nindent 6 }}
      {{- end }}
      {{- with include "innkeeper.topologySpread" $scope | trim }}
      {{- . | nindent 6 }}
      {{- end }}
      containers:
        - name: {{ $role }}
          image: {{ include "innkeeper.image" (dict "image" $root.Values.image "tag" $root.Chart.AppVersion) | quote }}
          imagePullPolicy: {{ $root.Values.image.pullPolicy }}
          args: [{{ $role }}]
          env:
            {{- include (printf "innkeeper.settings.%s" $role) $scope | nindent 12 }}
            {{- with $values.extraEnv }}
            {{- toYaml . | nindent 12 }}
            {{- end }}
          ports:
            - name: {{ ternary "http" "probes" (eq $role "gateway") }}
              containerPort: {{ include "innkeeper.port" $role }}
            {{- if eq $role "gateway" }}
            - name: metrics
              containerPort: {{ include "innkeeper.metricsPort" $role }}
            {{- end }}
          startupProbe:
            httpGet:
              path: /live
              port: {{ ternary "http" "probes" (eq $role "gateway") }}
            periodSeconds: 2
            timeoutSeconds: 2
            failureThreshold: 30
          livenessProbe:
            httpGet:
              path: /live
              port: {{ ternary "http" "probes" (eq $role "gateway") }}
            periodSeconds: 10
            timeoutSeconds: 5
            failureThreshold: 6
          readinessProbe:
            httpGet:
              path: /ready
              port: {{ ternary "http" "probes" (eq $role "gateway") }}
            periodSeconds: 5
            timeoutSeconds: 3
            failureThreshold: 2
          {{- if $preStop }}
          lifecycle:
            preStop:
              sleep:
                seconds: {{ $preStop }}
          {{- end }}
          resources:
            {{- toYaml $values.resources | nindent 12 }}
          {{- include "innkeeper.containerSecurity" . | nindent 10 }}
          volumeMounts:
            - name: secrets
              mountPath: /run/innkeeper/secrets
              readOnly: true
            - name: tmp
              mountPath: /tmp
            {{- with $values.extraVolumeMounts }}
            {{- toYaml . | nindent 12 }}
            {{- end }}
      volumes:
        {{- include "innkeeper.secretVolume" $scope | nindent 8 }}
        - name: tmp
          emptyDir:
            sizeLimit: 64Mi
        {{- with $values.extraVolumes }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
{{- end }}
